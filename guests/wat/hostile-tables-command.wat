;; A command that lets its table grow until it may not, and then traps.
(module
  (memory (export "memory") 1)
  (table $table 1 funcref)
  (func (export "_start")
    (loop $again
      (br_if $again (i32.ge_s (table.grow $table (ref.null func) (i32.const 1000)) (i32.const 0))))
    unreachable))
