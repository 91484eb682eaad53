//! The shard against a model of its volumes: on drives that reorder, lose and tear, with crashes anywhere.

mod cleaning;
mod crash;
mod disk;
mod drops;
mod images;
mod packed;
mod pages;
mod replay;
mod reuse;
mod single;
mod summaries;
mod world;
