//! Clocks, waiting, randomness.

use preview1::{Event, Wait, create, now, open_to_read, poll, resolution, seek, show, stat, text, unlink};

const RW: u32 = 3;

const MS: u64 = 1_000_000;

fn main() {
    clocks();
    waiting();
    descriptors();
    randomness();
}

fn clocks() {
    for clock in 0..4 {
        show(&format!("resolution of {clock}"), resolution(clock).map(|ns| ns > 0 && ns < 1_000_000_000));
        show(&format!("time of {clock}"), now(clock).map(|_| ()));
    }
    show("real time", now(0).map(|ns| ns > 1_700_000_000_000_000_000));
    show("the other does not say when the host began", now(1).map(|ns| ns < 3600 * 1000 * MS));
    let times: Vec<u64> = (0..100).map(|_| now(1).expect("a clock")).collect();
    println!("it only goes forward: {}", times.windows(2).all(|two| two[0] <= two[1]));
    println!("and is not 0: {}", times[0] > 0);
}

/// How long it took, in milliseconds, and what came.
fn timed(waits: &[Wait]) -> preview1::Answer<(u64, Vec<Event>)> {
    let began = now(1)?;
    let events = poll(waits)?;
    Ok(((now(1)? - began) / MS, events))
}

fn ids(events: &[Event]) -> Vec<(u64, &'static str, u8)> {
    events.iter().map(|event| (event.userdata, event.errno, event.ty)).collect()
}

fn waiting() {
    for clock in [0, 1] {
        let relative = timed(&[Wait::Clock(clock, 20 * MS, false)]);
        show(&format!("relative by {clock}"), relative.map(|(ms, events)| (ms >= 20, ms < 5000, ids(&events))));
        let absolute = timed(&[Wait::Clock(clock, now(clock as i32).expect("a clock") + 20 * MS, true)]);
        show(&format!("absolute by {clock}"), absolute.map(|(ms, events)| (ms >= 19, ms < 5000, ids(&events))));
        show(&format!("past by {clock}"), timed(&[Wait::Clock(clock, 1, true)]).map(|(ms, events)| (ms < 5000, ids(&events))));
        show(
            &format!("at once by {clock}"),
            timed(&[Wait::Clock(clock, 0, false)]).map(|(ms, events)| (ms < 5000, ids(&events))),
        );
    }
    let two = [Wait::Clock(1, 3600 * 1000 * MS, false), Wait::Clock(1, 5 * MS, false)];
    show("the sooner of two", timed(&two).map(|(ms, events)| (ms < 5000, ids(&events))));
    let never = [Wait::Clock(1, u64::MAX, false), Wait::Clock(0, u64::MAX, true), Wait::Clock(0, 5 * MS, false)];
    show("never and soon", timed(&never).map(|(ms, events)| (ms < 5000, ids(&events))));
    show("by a clock of computing", poll(&[Wait::Clock(2, 0, true)]).map(|events| ids(&events)));
    show("for nothing", poll(&[]));
    show("for very much", poll(&vec![Wait::Clock(1, 0, false); 5000]).map(|events| events.len()));
    show("for much", poll(&vec![Wait::Clock(1, 0, false); 4096]).map(|events| events.len()));
    // SAFETY: no memory is touched.
    show("yield", preview1::number(unsafe { preview1::raw::sched_yield() }));
    // SAFETY: no memory is touched.
    show("raise", preview1::number(unsafe { preview1::raw::proc_raise(6) }));
}

fn descriptors() {
    let file = open_to_read(RW, "file").expect("a file");
    show("read a file", poll(&[Wait::Read(file)]).map(|events| (ids(&events), events[0].flags)));
    show("read it", text(file));
    show("read its end", poll(&[Wait::Read(file)]).map(|events| (ids(&events), events[0].flags)));
    show("back", seek(file, 0, 0));
    let made = create(RW, "made").expect("a file");
    show("write a file", poll(&[Wait::Write(made)]).map(|events| ids(&events)));
    show("write stdout", poll(&[Wait::Write(1)]).map(|events| ids(&events)));
    show("read stdin", poll(&[Wait::Read(0)]).map(|events| ids(&events)));
    let waits = [Wait::Read(file), Wait::Clock(1, 3600 * 1000 * MS, false), Wait::Write(1)];
    let came = |events: &[Event], id| events.iter().any(|event| event.userdata == id);
    show("both and a time", timed(&waits).map(|(ms, events)| (ms < 5000, came(&events, 1), came(&events, 2))));
    show("read a directory", poll(&[Wait::Read(RW)]).map(|events| ids(&events)));
    show("read nothing", poll(&[Wait::Read(99)]).map(|events| ids(&events)));
    show("write nothing, and a time", poll(&[Wait::Write(99), Wait::Clock(1, 0, false)]).map(|events| ids(&events)));
    show("read stdout", poll(&[Wait::Read(1)]).map(|events| ids(&events)));
    show("write stdin", poll(&[Wait::Write(0)]).map(|events| ids(&events)));
    show("size", stat(file).map(|stat| stat.size));
    show("unlink", unlink(RW, "made"));
}

fn randomness() {
    let fill = |bytes: &mut [u8]| {
        // SAFETY: the bytes are borrowed for writing.
        preview1::number(unsafe { preview1::raw::random_get(bytes.as_mut_ptr(), bytes.len()) })
    };
    let (mut a, mut b) = ([0; 32], [0; 32]);
    show("random", fill(&mut a));
    show("random again", fill(&mut b));
    println!("they differ: {}", a != b && a != [0; 32]);
    show("none", fill(&mut []));
    let mut much = vec![0; 300_000];
    show("much", fill(&mut much));
    println!("all of it: {}", much.chunks(64).all(|piece| piece != [0; 64]));
}
