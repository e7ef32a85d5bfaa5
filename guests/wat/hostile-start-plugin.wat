;; A plugin that loops in its start function.
(module
  (memory (export "memory") 1)
  (func $begin (loop $again (br $again)))
  (start $begin)
  (func (export "process") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
