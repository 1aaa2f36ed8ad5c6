"""The whole fleet's figures: each worker writes its own into the cache's server, anybody adds them up."""
