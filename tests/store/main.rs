//! Stores of finished slices: what is written, what is read back, and what happens when files, disks and processes end.
#![cfg(all(feature = "connect", feature = "request", feature = "store-jsonl", unix))]

mod directory;
mod full_disk;
mod killed;
mod merged;
mod read_back;
mod secrets;
mod torn;
mod traffic;
