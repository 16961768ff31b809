//! Sockets of a test within the network of an instance: what runs there is then the test's own.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Listens at an address within the network of the process with this number.
pub fn listen_inside(process: i64, address: &str) -> TcpListener {
    let place = File::open(format!("/proc/{process}/ns/net")).expect("open the instance's network");
    let address = address.to_owned();
    // A thread may go where the others of the program are not; a socket stays where it was made.
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).expect("go into the instance's network");
        TcpListener::bind(address).expect("listen in the instance's network")
    });
    thread.join().expect("the thread that listens")
}
