"""eclipse-zenoh: publish and subscribe over a unix socket, payloads in shared memory."""

import time
from typing import Any

from benchmarks.harness.transport import Job, Receiver, Sender, Transport, Words

CONFIG = """{{
  mode: "peer", scouting: {{ multicast: {{ enabled: false }} }},
  {role}: {{ endpoints: ["unixsock-stream//dev/shm/{name}"] }},
  transport: {{ shared_memory: {{ enabled: true }} }},
}}"""


def session(job: Job, role: str) -> Any:
    import zenoh

    return zenoh.open(zenoh.Config.from_json5(CONFIG.format(role=role, name=job.name)))


class ZenohSender(Sender):
    def __init__(self, job: Job):
        import zenoh

        self._session = session(job, "listen")
        self._publisher = self._session.declare_publisher(
            f"b/{job.name}", congestion_control=zenoh.CongestionControl.BLOCK, express=True
        )
        put = self._publisher.put
        if job.nbytes < 4096:
            self.send = put
            return
        self._provider = zenoh.shm.ShmProvider.default_backend((job.slots + 4) * (job.nbytes + 4096))
        policy = zenoh.shm.BlockOn(zenoh.shm.GarbageCollect())
        alloc, nbytes = self._provider.alloc, job.nbytes

        def send(payload: Any) -> None:
            buffer = alloc(nbytes, policy=policy)
            buffer[0:nbytes] = payload
            put(buffer)

        self.send = send

    def close(self) -> None:
        self._session.close()


class ZenohReceiver(Receiver):
    def __init__(self, job: Job):
        import zenoh

        self._session = session(job, "connect")
        self._subscriber = self._session.declare_subscriber(
            f"b/{job.name}", zenoh.handlers.FifoChannel(job.slots)
        )
        self.recv = self._subscriber.recv
        time.sleep(0.3)  # the publisher has to learn of the subscription

    def view(self, message: Any) -> Words:
        shared = message.payload.as_shm()
        return super().view(bytes(message.payload if shared is None else shared))  # it has no buffer protocol

    def close(self) -> None:
        self._session.close()


class Zenoh(Transport):
    name = "eclipse-zenoh"
    package = "eclipse-zenoh"
    modules = ("zenoh",)
    settings = "unix socket, shared memory from 4 KiB on, congestion control blocks, express; always sleeps"
    payload = "bytearray"
    spins = False
    slow = True
    fan_out = True
    credit = True
    leftovers = ("/dev/shm/*zenoh*", "/tmp/*zenoh*")

    def sender(self, job: Job, link: Any) -> Sender:
        return ZenohSender(job)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        return ZenohReceiver(job)


TRANSPORTS = [Zenoh()]
