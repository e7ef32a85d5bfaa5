;; A component of `wasi:cli/run`: leaves the canary that it was made with, and grows at random. It fails if anything was there.
(component
  (import "wasi:random/random@{{version}}" (instance $random (export "get-random-u64" (func (result u64)))))
  (core func $random (canon lower (func $random "get-random-u64")))
  (core module $module
    (import "host" "random" (func $random (result i64)))
{{fields}}
    (func (export "run") (result i32)
      (call $look)
      (call $grow (i32.wrap_i64 (call $random)))
      (i32.ne (call $leave (i32.const {{canary}})) (i32.const 0)))
  )
  (core instance $guest (instantiate $module (with "host" (instance (export "random" (func $random))))))
  (func $run {{async}} (result (result)) (canon lift (core func $guest "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@{{version}}" (instance $exported))
)
