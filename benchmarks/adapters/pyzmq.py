"""pyzmq: PUSH and PULL, PUB and SUB, over ipc."""

from typing import Any

from benchmarks.harness.transport import Job, Receiver, Sender, Transport, Words, giving_way


class ZmqSender(Sender):
    def __init__(self, job: Job, fan_out: bool):
        import zmq

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB if fan_out else zmq.PUSH)
        self._socket.sndhwm = 0 if fan_out else job.slots
        self._socket.bind(f"ipc://@{job.name}")
        self.send = self._socket.send

    def close(self) -> None:
        self._socket.close(linger=1000)
        self._context.term()


class ZmqReceiver(Receiver):
    def __init__(self, job: Job, fan_out: bool):
        import zmq

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB if fan_out else zmq.PULL)
        self._socket.rcvhwm = 0 if fan_out else job.slots
        if fan_out:
            self._socket.subscribe(b"")
        self._socket.connect(f"ipc://@{job.name}")
        receive = self._socket.recv
        self._copies = job.nbytes < 1 << 16
        if self._copies and job.sleeping:
            self.recv = receive
        elif self._copies:
            self.recv = self._spinning(receive, zmq.NOBLOCK, zmq.Again, giving_way(job))
        else:
            self.recv = lambda: receive(copy=False)

    @staticmethod
    def _spinning(receive: Any, no_block: int, again: type[Exception], give_way: Any) -> Any:
        def recv() -> bytes:
            while True:
                try:
                    return receive(no_block)
                except again:
                    give_way()

        return recv

    def view(self, message: Any) -> Words:
        return super().view(message if self._copies else message.buffer)

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()


class Pyzmq(Transport):
    package = "pyzmq"
    modules = ("zmq",)
    payload = "bytearray"

    def __init__(self, fan_out: bool = False):
        self.fan_out = fan_out
        self.name = f"pyzmq, {'PUB to SUB' if fan_out else 'PUSH to PULL'}"
        self.settings = "ipc; received without a copy from 64 KiB on"
        self.credit = fan_out

    def sender(self, job: Job, link: Any) -> Sender:
        return ZmqSender(job, self.fan_out)

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        receiver = ZmqReceiver(job, self.fan_out)
        if self.fan_out:
            import time

            time.sleep(0.2)  # a subscription takes effect when the publisher has read it
        return receiver


TRANSPORTS = [Pyzmq(), Pyzmq(fan_out=True)]
