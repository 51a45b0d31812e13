"""torch.multiprocessing: tensors whose storage is moved to shared memory, through a queue."""

from typing import Any

from benchmarks.adapters.multiprocessing_ import Bound
from benchmarks.harness.transport import Job, Receiver, Sender, Transport, Words


class TorchReceiver(Receiver):
    def __init__(self, queue: Any):
        self.recv = queue.get

    def view(self, message: Any) -> Words:
        return message.numpy()


class Torch(Transport):
    name = "torch.multiprocessing"
    package = "torch"
    modules = ("torch",)
    settings = "SimpleQueue of tensors, sharing strategy file_descriptor, one thread"
    spins = False
    slow = True
    leftovers = ("/dev/shm/torch_*",)

    def setup(self, job: Job) -> Any:
        import torch
        import torch.multiprocessing as multiprocessing

        torch.set_num_threads(1)
        return multiprocessing.get_context("fork").SimpleQueue()

    def sender(self, job: Job, link: Any) -> Sender:
        import torch

        put, tensor = link.put, torch.tensor
        return Bound(lambda payload: put(tensor(payload)))

    def receiver(self, job: Job, link: Any, index: int) -> Receiver:
        return TorchReceiver(link)


TRANSPORTS = [Torch()]
