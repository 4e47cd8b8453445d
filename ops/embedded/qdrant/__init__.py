"""The embedded Qdrant: Qdrant's own engine, in process, behind the part of Qdrant's REST API that its readers use.

* `server`      the process: arguments, lock, signals, work while idle
* `routes`      which URL is which operation
* `store`       collections and aliases on disk
* `collection`  one collection: a shard of the engine
* `schema`, `vectors`, `filters`, `queries`, `updates`   Qdrant's JSON <-> the engine's objects
* `fields`      reads JSON objects without letting an unknown field pass
* `errors`      what is wrong, with the status code that Qdrant's server gives
"""
