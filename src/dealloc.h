/* SPDX-License-Identifier: Apache-2.0
 *
 * How frames and batches die. Cython puts the current exception aside before a __dealloc__, and back after
 * it, which takes as long as to give a frame back. That raises nothing and runs no Python code, so it comes
 * before Cython's part of the death instead.
 */
#ifndef SHMRING_DEALLOC_H
#define SHMRING_DEALLOC_H

#include <Python.h>

typedef void (*shmring_last_act)(PyObject *);

static shmring_last_act shmring_act_of_held;
static destructor shmring_rest_of_frame, shmring_rest_of_batch;

/* The object counts as alive meanwhile: to take and drop a reference to it must not end it twice. */
static inline void
shmring_end_held(PyObject *held, destructor rest)
{
    Py_SET_REFCNT(held, 1);
    shmring_act_of_held(held);
    Py_SET_REFCNT(held, 0);
    rest(held);
}

static void
shmring_end_frame(PyObject *frame)
{
    shmring_end_held(frame, shmring_rest_of_frame);
}

static void
shmring_end_batch(PyObject *batch)
{
    shmring_end_held(batch, shmring_rest_of_batch);
}

/* Once, before there are any: `act` is the last thing that a frame or a batch does. */
static inline void
shmring_before_death(PyTypeObject *frame, PyTypeObject *batch, shmring_last_act act)
{
    shmring_act_of_held = act;
    shmring_rest_of_frame = frame->tp_dealloc;
    shmring_rest_of_batch = batch->tp_dealloc;
    frame->tp_dealloc = shmring_end_frame;
    batch->tp_dealloc = shmring_end_batch;
}

#endif /* SHMRING_DEALLOC_H */
