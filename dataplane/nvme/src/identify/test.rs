//! Golden vectors and round trips of the Identify structures.
