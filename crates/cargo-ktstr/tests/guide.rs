//! Tests that the pages for users are true where that can be told without a machine: their commands exist, their links lead
//! to files, every page of the guide is in its table of contents, the shards of the CI examples are complete, and the messages
//! on the page on troubleshooting are those of the code. Each checker is also tested on a text with a planted error.
#![allow(clippy::unwrap_used)]

#[path = "guide/commands.rs"]
mod commands;
#[path = "guide/links.rs"]
mod links;
#[path = "guide/messages.rs"]
mod messages;
#[path = "guide/pages.rs"]
mod pages;
#[path = "guide/shards.rs"]
mod shards;
