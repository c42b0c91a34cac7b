// What the package does from time to time, done now: one tick of its timer, over the locks of this thread.
const internal: unknown = await import(new URL('./mutex/upkeep.js', import.meta.resolve('os-mutex')).href)

export const { careForAll } = internal as typeof import('../../dist/mutex/upkeep.js')
