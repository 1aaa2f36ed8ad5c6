"""The HTTP front: `POST /analysis` over an `AsyncProducer`. Needs the extra `http`."""
