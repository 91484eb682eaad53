//! One suite for the promises of `io`, two arms: the simulator is worth what this suite proves.
//!
//! Each case holds one sentence of the documentation in `dataplane/io/src` and is named after it. Arms: `sim`, in
//! memory; `ring`, io_uring with everything that the kernel offers; `plain`, io_uring with every optional feature off.
//!
//! Known divergences, which no caller may rely on:
//! - Virtual time moves only in polls; a look at the simulator takes 200 ns.
//! - The simulator's drives fail, tear and forget as the head of `dataplane/sim` says; the ring's arms run on files.
//! - A connection to a simulated listener is either established or refused at once; it never waits in a queue of SYNs.
//! - Bytes sent to a simulated connection whose target end was closed are answered with a reset at once.
//! - The simulator panics on disk addresses that the seam forbids; the ring may report them as a failed operation.
#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

#[path = "conformance/arm.rs"]
mod arm;
#[path = "conformance/disk.rs"]
mod disk;
#[path = "conformance/mail.rs"]
mod mail;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/net.rs"]
mod net;
#[path = "conformance/ring_arm.rs"]
mod ring_arm;
#[path = "conformance/sim_arm.rs"]
mod sim_arm;

/// Makes each case a test of each arm.
macro_rules! suite {
    ($($arm:ident: $make:ty),* ; $cases:tt) => {
        $(mod $arm { suite!(@cases $make, $cases); })*
    };
    (@cases $make:ty, { $($family:ident: [$($case:ident),* $(,)?]),* $(,)? }) => {
        $($(
            #[test]
            fn $case() {
                crate::$family::$case::<$make>();
            }
        )*)*
    };
}

suite! {
    sim: crate::sim_arm::SimArm,
    ring: crate::ring_arm::RingArm<true>,
    plain: crate::ring_arm::RingArm<false>;
    {
        memory: [
            buffers_have_the_length_asked_for_and_are_aligned,
            an_arena_is_bounded_and_takes_back_what_is_dropped,
            lasting_memory_is_beside_the_arena_and_written_by_a_sole_holder_alone,
            buffers_go_home_from_any_thread,
            shared_memory_goes_home_with_its_last_holder,
            reserves_cannot_be_taken_by_host_data,
            a_poll_whose_deadline_has_passed_only_looks,
            a_poll_without_events_lasts_until_its_deadline,
            a_poll_without_a_deadline_waits_for_an_event_and_appends_it,
            time_stands_still_between_polls_and_never_goes_back,
            an_operation_gives_back_the_very_buffer_it_took,
        ],
        disk: [
            drives_are_numbered_and_say_what_they_are_like,
            what_was_written_is_read_by_every_reactor,
            a_write_writes_the_first_len_bytes_and_no_more,
            one_read_gathers_extents_of_several_drives,
            one_read_takes_256_extents,
            operations_under_way_together_each_end_once,
            a_flush_ends_once_under_its_token,
            tokens_come_back_unchanged,
        ],
        mail: [
            reactors_know_their_number_and_how_many_they_are,
            mail_of_one_lane_arrives_in_order_with_its_sender,
            mail_to_oneself_arrives_at_the_next_poll,
            requests_are_refused_when_the_box_is_full_and_replies_never,
            mail_ends_a_poll_without_a_deadline,
            both_lanes_are_served,
        ],
        net: [
            a_listener_says_where_it_is_and_who_came,
            an_address_that_is_taken_or_foreign_is_refused,
            unlisten_refuses_new_connections_and_keeps_old_ones,
            bytes_arrive_whole_and_in_order,
            receive_into_fills_its_range_alone,
            the_end_of_a_stream_is_told_in_order,
            a_send_sends_every_kind_of_segment_in_order,
            a_send_longer_than_the_transports_buffers_ends_when_all_is_taken,
            a_second_receive_or_send_panics,
            a_released_connection_keeps_its_bytes_for_the_reactor_that_adopts_it,
            a_socket_that_is_dropped_is_closed,
            close_cancels_what_is_under_way_and_says_so_last,
            close_gives_back_the_buffer_of_a_receive_into,
            close_of_a_quiet_connection_ends_the_peers_stream,
            a_reset_by_the_peer_breaks_receives_and_sends,
            receives_that_wait_hold_no_memory,
            a_burst_of_connections_is_accepted,
        ],
    }
}
