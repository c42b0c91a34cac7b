/**
 * Settles with `work`, or at once with the signal's reason. For steps the kernel does not let us cancel (`fsync`
 * of gigabytes): they run on unobserved, so only use it where nothing depends on their end.
 */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    if (onAbort) signal.removeEventListener('abort', onAbort)
    work.catch(() => {})
  }
}
