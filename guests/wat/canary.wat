  ;; Looks for what another sandbox left behind, then leaves a canary wherever a guest can write: the fields of a core module, which
  ;; `crates/fornax/tests/canary.rs` makes a plugin or a component of. `{{…}}` is what differs between two of them.

  ;; Three tables, which is what the pool has for each place: one below a page; one that the kernel is asked about, or given back where
  ;; it has grown; and one that is not touched.
  (memory (export "memory") 2)
  (table $small 16 funcref)
  (table $large {{table}} funcref)
  (table $idle 1 funcref)
  (elem (table $small) (i32.const 4) func $own)
  (elem declare func $canary)
  (data (i32.const {{data}}) "pristinepristinepristinepristine")

  (global $i32 (mut i32) (i32.const 7))
  (global $i64 (mut i64) (i64.const -7))
  (global $f32 (mut f32) (f32.const 0.5))
  (global $f64 (mut f64) (f64.const -0.5))
  (global $v128 (mut v128) (v128.const i64x2 1 2))
  (global $func (mut funcref) (ref.func $own))
  ;; What was found first: 1 memory, 2 data, 3 globals, 4 tables, 5 sizes; the byte, or what else is there, from bit 8; the page or the
  ;; slot from bit 16.
  (global $found (mut i32) (i32.const 0))

  (type $function (func (result i32)))
  (func $own (type $function) (i32.const 1))
  (func $canary (type $function) (i32.const 2))

  (func $note (param $kind i32) (param $value i32) (param $where i32)
    (if (global.get $found) (then (return)))
    (global.set $found (i32.or
      (i32.or (local.get $kind) (i32.shl (i32.and (local.get $value) (i32.const 0xff)) (i32.const 8)))
      (i32.shl (local.get $where) (i32.const 16)))))

  (func $look_at_memory (param $at i32) (param $end i32)
    (loop $next
      (if (i32.ge_u (local.get $at) (local.get $end)) (then (return)))
      (if (i64.ne (i64.const 0)
          (i64.or
            (i64.or
              (i64.or (i64.load (local.get $at)) (i64.load offset=8 (local.get $at)))
              (i64.or (i64.load offset=16 (local.get $at)) (i64.load offset=24 (local.get $at))))
            (i64.or
              (i64.or (i64.load offset=32 (local.get $at)) (i64.load offset=40 (local.get $at)))
              (i64.or (i64.load offset=48 (local.get $at)) (i64.load offset=56 (local.get $at))))))
        (then (call $look_at_block (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br $next)))

  ;; 64 bytes, of which some are not zero: the module's own data is.
  (func $look_at_block (param $at i32) (local $end i32)
    (local.set $end (i32.add (local.get $at) (i32.const 64)))
    (loop $next
      (if (i32.and
          (i32.ne (i32.load8_u (local.get $at)) (i32.const 0))
          (i32.ge_u (i32.sub (local.get $at) (i32.const {{data}})) (i32.const 32)))
        (then (call $note (i32.const 1) (i32.load8_u (local.get $at)) (i32.shr_u (local.get $at) (i32.const 16)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))

  (func $look_at_data (local $at i32)
    (loop $next
      (if (i64.ne (i64.load offset={{data}} (local.get $at)) (i64.const 0x656e697473697270))
        (then (call $note (i32.const 2) (i32.load8_u offset={{data}} (local.get $at)) (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 32)))))

  (func $look_at_globals
    (if (i32.ne (global.get $i32) (i32.const 7)) (then (call $note (i32.const 3) (global.get $i32) (i32.const 0))))
    (if (i64.ne (global.get $i64) (i64.const -7)) (then (call $note (i32.const 3) (i32.wrap_i64 (global.get $i64)) (i32.const 1))))
    (if (f32.ne (global.get $f32) (f32.const 0.5)) (then (call $note (i32.const 3) (i32.const 0) (i32.const 2))))
    (if (f64.ne (global.get $f64) (f64.const -0.5)) (then (call $note (i32.const 3) (i32.const 0) (i32.const 3))))
    (if (v128.any_true (v128.xor (global.get $v128) (v128.const i64x2 1 2)))
      (then (call $note (i32.const 3) (i8x16.extract_lane_u 0 (global.get $v128)) (i32.const 4))))
    (table.set $idle (i32.const 0) (global.get $func))
    (if (i32.ne (call_indirect $idle (type $function) (i32.const 0)) (i32.const 1))
      (then (call $note (i32.const 3) (i32.const 0) (i32.const 5)))))

  (func $look_at_tables (local $at i32)
    (if (i32.eqz (ref.is_null (table.get $idle (i32.const 0)))) (then (call $note (i32.const 4) (i32.const 2) (i32.const 0))))
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $small (local.get $at))))
        (then
          (if (i32.or
              (i32.ne (local.get $at) (i32.const 4))
              (i32.ne (call_indirect $small (type $function) (local.get $at)) (i32.const 1)))
            (then (call $note (i32.const 4) (i32.const 0) (local.get $at)))))
        (else (if (i32.eq (local.get $at) (i32.const 4)) (then (call $note (i32.const 4) (i32.const 0) (local.get $at))))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 16))))
    (local.set $at (i32.const 0))
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $large (local.get $at))))
        (then (call $note (i32.const 4) (i32.const 1) (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const {{table}})))))

  (func $look
    {{before}}
    (if (i32.or (i32.ne (memory.size) (i32.const 2)) (i32.ne (table.size $large) (i32.const {{table}})))
      (then (call $note (i32.const 5) (memory.size) (i32.const 0)) (return)))
    (call $look_at_tables)
    (call $look_at_globals)
    (call $look_at_data)
    (call $look_at_memory (i32.const 0) (i32.const 0x20000)))

  ;; Grows as `how` says: not at all, by a page, past what is cleared by hand, past what is kept of a sandbox. What is new is looked at too.
  (func $grow (param $how i32)
    (if (i32.and (local.get $how) (i32.const 1)) (then (drop (memory.grow (i32.const 1)))))
    (if (i32.eqz (i32.and (local.get $how) (i32.const 15)))
      (then
        (drop (memory.grow (i32.const 3)))
        (drop (table.grow $large (ref.null func) (i32.const 8400)))))
    (if (i32.eqz (i32.and (local.get $how) (i32.const 127))) (then (drop (memory.grow (i32.const 66)))))
    (call $look_at_memory (i32.const 0x20000) (i32.shl (memory.size) (i32.const 16))))

  (func $leave_in_memory (param $canary i32)
    (memory.fill (i32.const 0) (local.get $canary) (i32.shl (memory.size) (i32.const 16))))

  (func $leave_in_globals (param $canary i32)
    (global.set $i32 (local.get $canary))
    (global.set $i64 (i64.extend_i32_u (local.get $canary)))
    (global.set $f32 (f32.convert_i32_u (local.get $canary)))
    (global.set $f64 (f64.convert_i32_u (local.get $canary)))
    (global.set $v128 (i8x16.splat (local.get $canary)))
    (global.set $func (ref.func $canary)))

  (func $leave_in_tables
    (table.fill $small (i32.const 0) (ref.func $canary) (table.size $small))
    (table.fill $large (i32.const 0) (ref.func $canary) (table.size $large))
    (table.fill $idle (i32.const 0) (ref.func $canary) (table.size $idle)))

  ;; Leaves the canary everywhere and returns what was found before.
  (func $leave (param $canary i32) (result i32) (local $found i32)
    (call $leave_in_memory (local.get $canary))
    (call $leave_in_globals (local.get $canary))
    (call $leave_in_tables)
    (local.set $found (global.get $found))
    (global.set $found (local.get $canary))
    (local.get $found))
