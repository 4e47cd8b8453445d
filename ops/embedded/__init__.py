"""The embedded servers, each behind the protocol of the real one."""
