"""Variables of every process that decodes images or computes with torch, on a laptop and in pods."""

VARIABLES = {
    # torch's threads must not spin while they wait for each other on a busy node.
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc keeps what threads free in heaps of their own: eight threads that read photographs peak at 1,872 MiB with
    # these heaps and at 1,088 MiB with one.
    "MALLOC_ARENA_MAX": "1",
}
