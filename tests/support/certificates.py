"""A throw-away CA, made by openssl: who is trusted, who is not, and who was."""

import ssl
import subprocess
from pathlib import Path

_CONFIG = """[ca]
default_ca = here
[here]
database = {place}/{ca}.index
new_certs_dir = {place}
serial = {place}/{ca}.serial
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
"""
_VALID, _EXPIRED = ("20200101000000Z", "20991231235959Z"), ("20200101000000Z", "20200201000000Z")


class Certificates:
    """Two CAs in `place`: `ca` that tests trust, and `stranger`. Each has NAME.pem and NAME.key."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for ca in ("ca", "stranger"):
            self._request(ca, f"DNS:{ca}", "-x509", "-days", "3650", end="pem")
            (place / f"{ca}.index").touch()
            (place / f"{ca}.serial").write_text("1000")
            (place / f"{ca}.cnf").write_text(_CONFIG.format(place=place, ca=ca))
        self._sign("server", "DNS:localhost")
        self._sign("elsewhere", "DNS:elsewhere.test")
        self._sign("expired", "DNS:localhost", dates=_EXPIRED)
        self._sign("client", "DNS:client")
        self._sign("strange-client", "DNS:client", by="stranger")

    def pem(self, name: str) -> str:
        """The path of a certificate."""
        return str(self.place / f"{name}.pem")

    def key(self, name: str) -> str:
        """The path of its key."""
        return str(self.place / f"{name}.key")

    def server(self, name: str = "server", *, asks: bool = False) -> ssl.SSLContext:
        """For a server that shows the certificate `name`, and, with `asks`, wants one of `ca` in return."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem(name), self.key(name))
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.pem("ca"))
        return context

    def _request(self, name: str, names: str, *more: str, end: str = "csr") -> None:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key(name)]
        subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
        self._openssl("req", "-new", *more, *key, *subject, "-out", str(self.place / f"{name}.{end}"))

    def _sign(self, name: str, names: str, *, by: str = "ca", dates: tuple[str, str] = _VALID) -> None:
        self._request(name, names)
        self._openssl(
            "ca", "-batch", "-notext", "-config", str(self.place / f"{by}.cnf"),
            "-cert", self.pem(by), "-keyfile", self.key(by), "-startdate", dates[0], "-enddate", dates[1],
            "-in", str(self.place / f"{name}.csr"), "-out", self.pem(name),
        )  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
