"""The processes of `shmring demo`, their parent, what it streams and what it shows."""
