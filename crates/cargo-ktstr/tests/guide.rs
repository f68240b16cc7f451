//! Tests that the pages for users are true as far as that can be checked without a machine: their commands exist, their links
//! lead to files, every page of the guide is in its table of contents, the CI examples keep the rules of their systems, call
//! programs that exist and run all their shards, and the messages on the page on troubleshooting are those of the code. Each
//! checker is also tested on a text with a planted error.
#![allow(clippy::unwrap_used)]

#[path = "guide/commands.rs"]
mod commands;
#[path = "guide/links.rs"]
mod links;
#[path = "guide/messages.rs"]
mod messages;
#[path = "guide/pages.rs"]
mod pages;
#[path = "guide/scripts.rs"]
mod scripts;
#[path = "guide/shards.rs"]
mod shards;
#[path = "guide/systems.rs"]
mod systems;
#[path = "guide/yaml.rs"]
mod yaml;
