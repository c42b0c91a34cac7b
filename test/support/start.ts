/**
 * Starts a process by `start`. Wine 8 now and then fails to, whichever program it is ("spawn UNKNOWN", a few times in many thousands of
 * starts): that says nothing about what is tested, so it is tried again.
 */
export function started<T>(start: () => T): T {
  for (let attempt = 1; ; attempt++) {
    try {
      return start()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'UNKNOWN' || attempt === 3) throw error
    }
  }
}
