/** Milliseconds of the machine's monotonic clock, which owners stamp their progress with. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1000 + nanoseconds / 1e6
}
