//! What tests and the first-try script share: the sample workload, and objects for tests.
