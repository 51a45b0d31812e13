"""asyncio: async for, get_async, cancellation, many consumers and loops; no busy loop, nothing lost."""

import asyncio
import os
import threading
import time
import weakref

import pytest

import shmring
from support.frames import check, drain, feed, payload
from support.peers import open_producer, put
from support.waiting import PATIENCE, settle, unclosed, wait_until

pytestmark = pytest.mark.slow


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_async_for_to_the_end_of_the_stream(ring, lossless):
    async def consume(consumer):
        return [check(frame) async for frame in consumer]

    async def main(producer):
        with ring.consumer(lossless=lossless) as consumer:
            task = asyncio.create_task(consume(consumer))
            for _ in range(5):
                await asyncio.sleep(0)
                feed(producer, 2)
                while consumer.lag:
                    await asyncio.sleep(0.001)
            producer.close()
            return await task

    with ring.producer() as producer:
        assert asyncio.run(main(producer)) == list(range(10))


def test_a_frame_that_is_there_comes_at_once(ring):
    async def main():
        with ring.consumer() as consumer:
            return [check(await consumer.get_async(0)) for _ in range(3)]

    with ring.producer() as producer:
        feed(producer, 3)
        assert asyncio.run(main()) == [0, 1, 2]


def test_the_newest_frame_passes_over_older_ones(ring, lossless):
    async def main(producer):
        with ring.consumer(lossless=lossless) as consumer:
            feed(producer, 3)
            assert check(await consumer.latest_async(0)) == 2
            task = asyncio.create_task(consumer.latest_async(PATIENCE))
            await asyncio.sleep(0)
            assert not task.done()
            feed(producer, 1)
            assert check(await task) == 3
            assert (consumer.skipped, consumer.delivered, consumer.lost) == (2, 2, 0)
            with pytest.raises(shmring.RingEmpty):
                await consumer.latest_async(0)
            producer.close()
            with pytest.raises(shmring.RingClosed):
                await consumer.latest_async()

    with ring.producer() as producer:
        asyncio.run(main(producer))


def test_a_cancelled_wait_for_the_newest_frame_takes_none(ring):
    async def main(producer):
        with ring.consumer() as consumer:
            task = asyncio.create_task(consumer.latest_async())
            await asyncio.sleep(0)
            task.cancel()
            feed(producer, 1)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (consumer.delivered, check(consumer.get(0))) == (0, 0)

    with ring.producer() as producer:
        asyncio.run(main(producer))


def test_the_newest_frame_cannot_come_while_all_slots_are_held(make):
    async def main(consumer):
        await consumer.latest_async()

    ring = make(slots=2)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 2)
        held = [consumer.get(0), consumer.get(0)]
        with pytest.raises(shmring.SlotsHeld):
            asyncio.run(main(consumer))
        del held


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_timeout(ring, timeout):
    async def main():
        with ring.consumer() as consumer:
            with pytest.raises(shmring.RingEmpty):
                await consumer.get_async(timeout)
            with ring.producer() as producer:
                feed(producer, 1)
                return check(await consumer.get_async(timeout))

    assert asyncio.run(main()) == 0


@pytest.mark.slow
def test_another_process_wakes_the_loop(ring, peer):
    other = peer(ring)
    other.run(open_producer)

    async def main():
        with ring.consumer() as consumer:
            seqs = []
            for _ in range(40):
                task = asyncio.create_task(consumer.get_async())
                await asyncio.sleep(0)
                other.begin(put, 1)
                seqs.append(check(await task))
                other.answer()
            return seqs

    begin = time.monotonic()
    assert asyncio.run(main()) == list(range(40))
    assert time.monotonic() - begin < 3.6  # lost wake-ups would cost 100 ms each


def test_the_loop_goes_on_meanwhile(ring):
    async def main():
        with ring.consumer() as consumer:
            task = asyncio.create_task(consumer.get_async())
            for _ in range(100):
                await asyncio.sleep(0.001)
            assert not task.done()
            with ring.producer() as producer:
                feed(producer, 1)
                return check(await task)

    assert asyncio.run(main()) == 0


@pytest.mark.slow
def test_no_busy_loop(ring):
    async def main():
        with ring.consumer() as one, ring.consumer() as two:
            used = time.process_time()
            results = await asyncio.gather(one.get_async(0.5), two.get_async(0.5), return_exceptions=True)
            used = time.process_time() - used
            assert [type(result) for result in results] == [shmring.RingEmpty] * 2
            return used

    assert asyncio.run(main()) < 0.2


# ---- cancellation


def test_a_cancelled_wait_loses_no_frame(ring, lossless):
    async def main(producer):
        seqs, cancelled = [], 0
        with ring.consumer(lossless=lossless) as consumer:
            for turn in range(200):
                task = asyncio.create_task(consumer.get_async())
                await asyncio.sleep(0)
                if turn % 3 == 0:
                    feed(producer, 1)
                if turn % 5 == 0:
                    await asyncio.sleep(0.001)
                task.cancel()
                try:
                    seqs.append(check(await task))
                except asyncio.CancelledError:
                    cancelled += 1
            seqs += drain(consumer)
            del task
            assert consumer.held == 0
            assert consumer.lost == 0
        assert cancelled > 0
        return seqs

    with ring.producer() as producer:
        assert asyncio.run(main(producer)) == list(range(67))


@pytest.mark.parametrize("how", ["wait_for", "timeout"])
@pytest.mark.slow
def test_timeouts_of_asyncio_lose_no_frame(ring, peer, how):
    """Cut at any moment, while another program publishes at full speed."""
    other = peer(ring)
    other.run(open_producer)

    async def get(consumer, seconds):
        if how == "wait_for":
            return await asyncio.wait_for(consumer.get_async(), seconds)
        async with asyncio.timeout(seconds):
            return await consumer.get_async()

    async def main():
        with ring.consumer() as consumer:
            other.begin(put, 2000)
            seqs, cuts = [], 0
            while len(seqs) < 2000:
                try:
                    seqs.append(check(await get(consumer, 0.0001 * (cuts % 5))))
                except TimeoutError:
                    cuts += 1
            assert consumer.lost == 0
            assert consumer.delivered == 2000
            return seqs

    assert asyncio.run(main()) == list(range(2000))
    assert other.answer() == 2000


def test_a_cancelled_task_group_leaves_the_consumer_usable(ring):
    async def fail(consumer):
        async with asyncio.TaskGroup() as group:
            group.create_task(consumer.get_async())
            await asyncio.sleep(0)
            raise ValueError

    async def main(producer):
        with ring.consumer() as consumer:
            with pytest.raises(ExceptionGroup):
                await fail(consumer)
            feed(producer, 2)
            assert check(consumer.get(0)) == 0
            return check(await consumer.get_async(1))

    with ring.producer() as producer:
        assert asyncio.run(main(producer)) == 1


# ---- many


def test_many_consumers_in_one_loop(make):
    ring = make(slots=8)

    async def consume(lossless):
        with ring.consumer(lossless=lossless) as consumer:
            seqs = [check(frame) async for frame in consumer]
            assert consumer.lost == 0 or not lossless
            return seqs, consumer.lost

    async def main():
        tasks = [asyncio.create_task(consume(i % 2 == 0)) for i in range(10)]
        with ring.producer() as producer:
            while len(ring.stats().consumers) < 10:
                await asyncio.sleep(0.001)
            for _ in range(20):
                while any(one.delivered + one.lost < producer.next_seq for one in ring.stats().consumers):
                    await asyncio.sleep(0.0005)
                feed(producer, 3)
        return await asyncio.gather(*tasks)

    for seqs, lost in asyncio.run(main()):
        assert len(seqs) + lost == 60
        assert seqs == sorted(seqs)
        assert lost or seqs == list(range(60))


def test_several_rings_in_one_loop_need_one_thread(make):
    rings = [make() for _ in range(5)]

    async def main():
        before = threads()
        everyone = [ring.consumer() for ring in rings]
        tasks = [asyncio.create_task(consumer.get_async()) for consumer in everyone]
        await asyncio.sleep(0.05)
        extra = threads() - before
        for number, ring in enumerate(rings):
            with ring.producer() as producer:
                feed(producer, number % 2 + 1)
        seqs = [check(frame) for frame in await asyncio.gather(*tasks)]
        for number, consumer in enumerate(everyone):
            assert len(drain_to_end(consumer)) == number % 2
            consumer.close()
        return extra, seqs

    extra, seqs = asyncio.run(main())
    assert seqs == [0] * 5
    assert extra <= 1, f"{extra} helper threads for one event loop"


def drain_to_end(consumer):
    return [check(frame) for frame in consumer]


def test_one_loop_after_another(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        for turn in range(5):

            async def main(turn=turn):
                with pytest.raises(shmring.RingEmpty):
                    await consumer.get_async(0.01)
                feed(producer, 2)
                return check(await consumer.get_async()), check(await anext(consumer))

            assert asyncio.run(main()) == (2 * turn, 2 * turn + 1)


def test_two_loops_in_two_threads(make):
    ring = make(slots=8)
    results = {}

    async def consume():
        with ring.consumer() as consumer:
            return [check(frame) async for frame in consumer]

    def run(key):
        results[key] = asyncio.run(consume())

    loops = [threading.Thread(target=run, args=(key,)) for key in range(2)]
    for loop in loops:
        loop.start()
    with ring.producer() as producer:
        producer.wait_for_consumers(2, PATIENCE)
        for seq in range(500):
            producer.put(payload(seq), timeout=PATIENCE)
    for loop in loops:
        loop.join()
    assert results == {0: list(range(500)), 1: list(range(500))}


def test_two_waits_on_one_consumer_are_served_or_refused(ring):
    async def main(producer):
        with ring.consumer() as consumer:
            tasks = [asyncio.create_task(consumer.get_async(5)) for _ in range(2)]
            await asyncio.sleep(0.01)
            feed(producer, 2)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            seqs = [check(result) for result in results if isinstance(result, shmring.Frame)]
            errors = [result for result in results if not isinstance(result, shmring.Frame)]
            assert all(isinstance(error, shmring.HandleBusy) for error in errors)
            results = tasks = errors = None
            return sorted(seqs + drain(consumer))

    with ring.producer() as producer:
        assert asyncio.run(main(producer)) == [0, 1]


# ---- the end


def test_the_end_of_the_stream(ring):
    async def main():
        with ring.consumer() as consumer:
            task = asyncio.create_task(consumer.get_async())
            await asyncio.sleep(0.01)
            with ring.producer():
                pass
            with pytest.raises(shmring.RingClosed):
                await task
            return [check(frame) async for frame in consumer]

    assert asyncio.run(main()) == []


@pytest.mark.event("the producer is killed at any instruction")
def test_the_death_of_the_producer(ring, peer):
    other = peer(ring)
    other.run(open_producer)

    async def main():
        with ring.consumer() as consumer:
            task = asyncio.create_task(consumer.get_async())
            await asyncio.sleep(0.01)
            other.run(put, 2)
            assert check(await task) == 0
            other.kill()
            assert check(await consumer.get_async()) == 1
            with pytest.raises(shmring.ProducerDied):
                await consumer.get_async()
            with pytest.raises(shmring.ProducerDied):
                await anext(consumer)

    asyncio.run(main())


def test_death_while_the_loop_waits(ring, peer):
    other = peer(ring)
    other.run(open_producer)

    async def main():
        with ring.consumer() as consumer:
            task = asyncio.create_task(consumer.get_async())
            await asyncio.sleep(0.05)
            assert not task.done()
            other.kill()
            with pytest.raises(shmring.ProducerDied):
                await asyncio.wait_for(task, PATIENCE)

    asyncio.run(main())


def test_a_consumer_may_wait_for_the_takeover(ring, peer):
    other = peer(ring)
    other.run(open_producer)

    async def main():
        with ring.consumer(wait_for_takeover=True) as consumer:
            task = asyncio.create_task(consumer.get_async())
            await asyncio.sleep(0.01)
            other.kill()
            await asyncio.sleep(0.15)
            assert not task.done()
            with ring.producer() as producer:
                feed(producer, 1)
                return check(await asyncio.wait_for(task, PATIENCE))

    assert asyncio.run(main()) == 0


@pytest.mark.event("a consumer waits for a frame that cannot come because it holds the slots itself")
def test_holding_every_slot(ring):
    async def main(producer):
        with ring.consumer() as consumer:
            feed(producer, ring.slots)
            held = [await consumer.get_async() for _ in range(ring.slots)]
            with pytest.raises(shmring.SlotsHeld):
                await consumer.get_async()
            assert [check(frame) for frame in held] == list(range(ring.slots))

    with ring.producer() as producer:
        asyncio.run(main(producer))


def test_a_consumer_that_is_closed_while_it_is_awaited(ring):
    async def main():
        consumer = ring.consumer()
        task = asyncio.create_task(consumer.get_async(10))
        await asyncio.sleep(0.01)
        try:
            consumer.close()
        except shmring.HandleBusy:
            task.cancel()
        with pytest.raises((ValueError, shmring.ShmringError, asyncio.CancelledError)) as caught:
            await asyncio.wait_for(task, PATIENCE)
        assert not isinstance(caught.value, TimeoutError)
        consumer.close()

    asyncio.run(main())
    assert ring.stats().consumers == ()


def test_the_loop_ends_while_a_task_waits(ring):
    """asyncio.run cancels what is left; neither a thread nor a descriptor remains."""

    async def main():
        task = asyncio.create_task(ring.consumer().get_async())
        await asyncio.sleep(0.01)
        return task

    with unclosed("Consumer"):
        assert asyncio.run(main()).cancelled()
    assert ring.stats().consumers == ()


def test_a_loop_that_is_just_closed(ring):
    loop = asyncio.new_event_loop()
    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises(shmring.RingEmpty):
            loop.run_until_complete(consumer.get_async(0.01))
        loop.close()
        feed(producer, 1)
        assert check(consumer.get(0)) == 0


def test_neither_loops_nor_threads_pile_up(ring):
    before, loops = threads(), []

    async def main(consumer):
        loops.append(weakref.ref(asyncio.get_running_loop()))
        with pytest.raises(shmring.RingEmpty):
            await consumer.get_async(0.001)

    with ring.consumer() as consumer:
        for _ in range(20):
            asyncio.run(main(consumer))

    def gone() -> bool:
        settle()
        return threads() <= before and [loop() for loop in loops] == [None] * 20

    wait_until(gone, "closed loops and their helper threads are gone")


def test_a_thread_that_cannot_start_is_an_error_and_no_more(ring, monkeypatch):
    """The wait after it gets its frame."""

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    async def main(producer, consumer):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for _ in range(2):
                with pytest.raises(RuntimeError, match=r"can't start new thread.*raise the limit"):
                    await consumer.get_async()
        waiting = asyncio.create_task(consumer.get_async())
        await asyncio.sleep(0)
        feed(producer, 1)
        return check(await asyncio.wait_for(waiting, PATIENCE))

    with ring.producer() as producer, ring.consumer() as consumer:
        assert asyncio.run(main(producer, consumer)) == 0


def test_a_thread_that_dies_loses_no_wait(make, monkeypatch):
    """Another one takes over."""
    from shmring import _core

    rings = [make(), make()]
    real = _core.wait_any
    deaths = []

    def die_first(*arguments):
        if len(deaths) < 2:
            deaths.append(threading.current_thread())
            raise MemoryError
        real(*arguments)

    monkeypatch.setattr(_core, "wait_any", die_first)
    monkeypatch.setattr(threading, "excepthook", lambda _what: None)

    async def main(producers, consumers):
        waiting = [asyncio.create_task(consumer.get_async()) for consumer in consumers]
        while len(deaths) < 2:
            await asyncio.sleep(0.001)
        for producer in producers:
            feed(producer, 1)
        return [check(frame) for frame in await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)]

    producers, consumers = [ring.producer() for ring in rings], [ring.consumer() for ring in rings]
    assert asyncio.run(main(producers, consumers)) == [0, 0]
    assert len(set(deaths)) == 2
    for thread in deaths:
        thread.join(PATIENCE)
    for handle in producers + consumers:
        handle.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_waits_with_a_thread_of_its_own(ring, fork):
    """Also in a loop that the parent had waited in before."""
    loop = asyncio.new_event_loop()

    async def first(consumer, timeout):
        return check(await consumer.get_async(timeout))

    def work(send):
        with ring.consumer(start="next") as mine:
            send("joined")
            send(loop.run_until_complete(first(mine, PATIENCE)))

    with ring.producer() as producer, ring.consumer() as consumer:
        with pytest.raises(shmring.RingEmpty):
            loop.run_until_complete(first(consumer, 0.01))
        child = fork(work)
        assert child.receive() == "joined"
        feed(producer, 1)
        assert child.receive() == 0
        assert child.wait() == 0
        assert drain(consumer) == [0]
    loop.close()


def test_async_waits_need_a_loop(ring):
    with ring.consumer() as consumer:
        wait = consumer.get_async(0)
        with pytest.raises((RuntimeError, shmring.RingEmpty)):
            wait.send(None)
        wait.close()


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_cancelled_at_random_moments(make, peer):
    ring = make(slots=16)
    other = peer(ring)
    other.run(open_producer)
    count = 50_000

    async def one(consumer, seconds):
        try:
            return check(await asyncio.wait_for(consumer.get_async(), seconds))
        except TimeoutError:
            return None

    async def consume(number):
        with ring.consumer(label=str(number)) as consumer:
            seqs, turn = [], number
            while len(seqs) < count:
                turn += 1
                if (seq := await one(consumer, turn * 7 % 11 * 1e-5)) is not None:
                    seqs.append(seq)
            return seqs == list(range(count))

    async def main():
        tasks = [asyncio.create_task(consume(number)) for number in range(3)]
        while len(ring.stats().consumers) < 3:
            await asyncio.sleep(0.001)
        other.begin(put, count)
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [True] * 3
