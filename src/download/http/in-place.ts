// Sockets that undici reads without a stream in between: each read of the system goes into one buffer of all connections, and
// undici's parser is given that. What it does not take at once, because it pauses, is copied. A body costs half of the
// processor time so. Node's `onread` (https://nodejs.org/api/net.html#socketconnectoptions-connectlistener) makes it possible.
//
// Whoever gets the body must have done with a chunk when its handler returns: here that is `Blocks.add`.
import type { Socket } from 'node:net'
import type { buildConnector } from 'undici'
import { undici } from './undici.ts'

type Connector = ReturnType<typeof buildConnector>

/** What has been read and not been taken yet. */
const unread = Symbol('unread')
interface InPlaceSocket extends Socket {
  [unread]?: Uint8Array[]
}

/** As large as the system's buffer is likely to be full, and small enough to stay in the processor's cache. */
const bufferBytes = 128 * 1024

/** Bun and Deno have the option, or not, in ways of their own. */
const isNode = process.versions.bun === undefined && !('Deno' in globalThis)

/** As undici's own `buildConnector`. All its sockets share one buffer. On Bun and Deno: as `streamConnector`. */
export function inPlaceConnector(options: buildConnector.BuildOptions): Connector {
  if (!isNode) return streamConnector(options)
  const onread = { buffer: Buffer.allocUnsafeSlow(bufferBytes), callback: onRead }
  return prepared(undici.buildConnector({ ...options, onread } as buildConnector.BuildOptions), readInPlace)
}

/**
 * As undici's own `buildConnector`: sockets that undici reads as streams. But their end never comes in a pause, where
 * undici fails by it: https://github.com/nodejs/undici/issues/5360
 */
export function streamConnector(options: buildConnector.BuildOptions): Connector {
  return prepared(undici.buildConnector(options), keepEndFromPauses)
}

function prepared(connect: Connector, prepare: (socket: Socket) => void): Connector {
  return (to, callback) =>
    connect(to, (...[error, socket]) => {
      if (error) return callback(error, null)
      prepare(socket)
      callback(null, socket)
    })
}

/**
 * 1. undici pauses. 2. The server closes, and the runtime pushes the end. 3. The stream has no data left, so it tells
 * the end at once, and undici throws. So the end is pushed when undici reads again and finds nothing.
 */
function keepEndFromPauses(socket: Socket): void {
  const { read, push } = socket
  let isPaused = false
  let isEndKept = false
  const pushEnd = () => {
    if (isPaused || !isEndKept) return
    isEndKept = false
    push.call(socket, null)
    read.call(socket, 0)
  }
  socket.push = (chunk: unknown, encoding?: BufferEncoding) => {
    if (chunk !== null || !isPaused) return push.call(socket, chunk, encoding)
    isEndKept = true
    return false
  }
  socket.read = (size?: number) => {
    // So a runtime looks for data or the end. It looks again when undici goes on.
    if (size !== undefined) return isPaused ? null : read.call(socket, size)
    // If the end was pushed already: a read of just what is there does not tell it. The next read does.
    const chunk = read.call(socket, socket.readableLength || undefined)
    // undici reads until it gets nothing, unless it pauses.
    isPaused = chunk !== null
    if (!isPaused && isEndKept) process.nextTick(pushEnd)
    return chunk
  }
}

function readInPlace(socket: InPlaceSocket): void {
  const chunks: Uint8Array[] = []
  const read = socket.read
  socket[unread] = chunks
  // undici reads until it gets nothing, unless it pauses.
  let isPaused = false
  socket.read = (size?: number) => {
    if (size === undefined) {
      const chunk = chunks.shift()
      isPaused = chunk !== undefined
      if (chunk !== undefined) return chunk
    }
    // Node's own goes on after a pause, and tells the end. That must come behind what was read, and never in a pause, where undici
    // fails by it: https://github.com/nodejs/undici/issues/5360
    return isPaused ? null : read.call(socket, 0)
  }
  // A parser that pauses within a chunk gives the rest of it back.
  socket.unshift = (rest: Uint8Array) => {
    if (rest.length > 0) chunks.unshift(Buffer.from(rest))
  }
}

/** Called by Node for each read. Returns whether it may go on, with the same buffer. */
function onRead(this: InPlaceSocket, bytes: number, buffer: Uint8Array): boolean {
  const chunks = this[unread]
  // Before the connection is made there is nothing that undici could want.
  if (chunks === undefined) return true
  const chunk = buffer.subarray(0, bytes)
  const isWaitedFor = chunks.push(chunk) === 1
  if (isWaitedFor) this.emit('readable')
  if (chunks.at(-1) === chunk) chunks[chunks.length - 1] = Buffer.from(chunk)
  return chunks.length === 0
}
