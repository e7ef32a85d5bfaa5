//! Arguments, environment, standard streams, and lengths that nobody means.

use preview1::raw::{self, Iovec};
use preview1::{Errno, Wait, number, poll, read, show, write};

fn main() {
    if std::env::args().nth(1).is_some_and(|mode| mode == "echo") {
        echo();
    }
    println!("args: {:?}", std::env::args().skip(1).collect::<Vec<_>>());
    let mut env: Vec<(String, String)> = std::env::vars().collect();
    env.sort();
    println!("env: {env:?}");
    let mut bytes = [0; 5];
    show("read", read(0, &mut [&mut bytes]).map(|len| String::from_utf8_lossy(&bytes[..len]).into_owned()));
    let mut rest = vec![0; 1000];
    show("read the rest", read(0, &mut [&mut rest]).map(|len| String::from_utf8_lossy(&rest[..len]).into_owned()));
    show("read the end", read(0, &mut [&mut rest]));
    show("read the end again", read(0, &mut [&mut rest]));
    show("write to stderr", write(2, &[b"a line\n"]));
    hostile();
    sockets();
    // SAFETY: no memory is touched, and nothing comes after.
    unsafe { raw::proc_exit(7) }
}

/// Lists that are too long; lengths that lead out are for another program, since some hosts end one for them.
fn hostile() {
    let mut to = 0_usize;
    let byte = 7_u8;
    let many = vec![Iovec { at: (&raw const byte).cast_mut(), len: 0 }; 1024];
    // SAFETY: the buffers are empty.
    show("1024 buffers", number(unsafe { raw::fd_write(2, many.as_ptr(), many.len(), &raw mut to) }));
    let many = vec![Iovec { at: (&raw const byte).cast_mut(), len: 0 }; 1025];
    // SAFETY: the buffers are empty.
    show("1025 buffers", number(unsafe { raw::fd_write(2, many.as_ptr(), many.len(), &raw mut to) }));
}

fn sockets() {
    let (mut fd, mut len, mut flags) = (0, 0, 0);
    for of in [0, 99] {
        // SAFETY: no buffers are given, and what is written to outlives the calls.
        unsafe {
            show(&format!("accept {of}"), number(raw::sock_accept(of, 0, &raw mut fd)));
            show(&format!("recv {of}"), number(raw::sock_recv(of, std::ptr::null(), 0, 0, &raw mut len, &raw mut flags)));
            show(&format!("send {of}"), number(raw::sock_send(of, std::ptr::null(), 0, 0, &raw mut len)));
            show(&format!("shutdown {of}"), number(raw::sock_shutdown(of, 3)));
        }
    }
}

/// Waits for input, repeats it, and so on to its end, which it says on standard error, or until nobody reads.
fn echo() -> ! {
    let mut bytes = [0; 64];
    let ended: Result<(), Errno> = loop {
        let events = poll(&[Wait::Read(0), Wait::Clock(1, 3_600_000_000_000, false)]).expect("an event");
        assert!(events.len() == 1 && events[0].ty == 1, "{events:?}");
        let len = match read(0, &mut [&mut bytes]) {
            Ok(0) => break Ok(()),
            Ok(len) => len,
            Err(errno) => break Err(errno),
        };
        if let Err(errno) = write(1, &[b"<", &bytes[..len], b">"]) {
            break Err(errno);
        }
    };
    let text = ended.map_or_else(Errno::name, |()| "the end");
    write(2, &[text.as_bytes()]).expect("somebody reads it");
    // SAFETY: no memory is touched, and nothing comes after.
    unsafe { raw::proc_exit(3) }
}
