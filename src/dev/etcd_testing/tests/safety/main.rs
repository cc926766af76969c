//! The store behind etcd's API when things go wrong: a quota, a full disk, damage, and clients that mean harm. Nothing that was acknowledged is lost,
//! and what is refused is refused in etcd's words.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod clients;
mod damage;
mod frames;
mod space;
mod support;
