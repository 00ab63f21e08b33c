"""The pack: every image decoded, framed and measured once, in shards that any number of processes may read."""
