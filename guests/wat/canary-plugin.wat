;; A plugin: looks before the host has written anything, and takes from its input which canary it leaves and how it grows, a byte each.
(module
{{fields}}
  (global $next (mut i32) (i32.const 1024))
  (func (export "_initialize") (call $look))
  (func (export "alloc") (param $len i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $len))))
  (func (export "process") (param $input i32) (param $len i32) (param $env i32) (param $env_len i32) (result i32) (local $canary i32)
    (local.set $canary (i32.load8_u (local.get $input)))
    (call $grow (i32.load8_u offset=1 (local.get $input)))
    (global.set $next (local.get $canary))
    (call $leave (local.get $canary)))
)
