"""The queue on Redis or Valkey: kombu's lists and envelope, our own Lua."""
