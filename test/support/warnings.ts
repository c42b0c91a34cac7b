import type { TestContext } from 'node:test'

/** The process's warnings of this code, from now on. They are emitted in the next tick. */
export function warningsOf(t: TestContext, code: string): string[] {
  const seen: string[] = []
  const note = (warning: Error & { code?: string }) => {
    if (warning.code === code) seen.push(warning.message)
  }
  process.on('warning', note)
  t.after(() => process.off('warning', note))
  return seen
}
