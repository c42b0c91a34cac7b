// The dispatcher of the undici inside Node. Node sets it when it loads that undici, unless a user's undici has set its
// own before. So this module must be the first that a program imports.
const loading = fetch('data:,x')

function globalDispatcher(generation: number): unknown {
  return (globalThis as unknown as Record<symbol, unknown>)[Symbol.for(`undici.globalDispatcher.${generation}`)]
}

/** `own`: that all can use. `inner`: since undici 8, what it wraps. */
export const nodesDispatchers = { own: globalDispatcher(1), inner: globalDispatcher(2) }

await loading
