//! What threads freed must not stay with each of them for ever.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use crate::house::{House, Options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_keeps_few_heaps_however_it_was_started() {
    let house = House::open(Options::default()).await;
    let programs = [house.api(None).await, house.worker().await, house.calls().await];
    for program in &programs {
        // Nothing was set where it was started; what it has now is what the C library read (proc(5)).
        let environment = std::fs::read(format!("/proc/{}/environ", program.pid())).unwrap();
        assert!(environment.split(|byte| *byte == 0).any(|one| one == b"MALLOC_ARENA_MAX=2"));
    }
    house.close_with(programs).await;
}
