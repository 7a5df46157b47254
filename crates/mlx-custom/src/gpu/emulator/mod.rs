//! Runs a kernel on the CPU, one fiber for each of its threads.
