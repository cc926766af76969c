//! Kinds of the group `apiregistration`, one file each.

pub mod api_service;
