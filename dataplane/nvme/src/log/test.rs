//! Golden vectors and round trips of the log pages.
