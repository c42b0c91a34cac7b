// A SOCKS5 proxy (RFC 1928, RFC 1929) that leads every name to one port of this machine, and remembers what it was
// asked for.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { listening } from './listening.ts'

export interface Socks5Server extends Disposable {
  /** `host:port` of the proxy. */
  readonly address: string
  /** `user:password name:port` of each connection. */
  readonly asked: readonly string[]
}

export async function startSocks5(targetPort: number): Promise<Socks5Server> {
  const asked: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    void serve(socket, targetPort, asked).catch(() => socket.destroy())
  })
  return {
    address: `127.0.0.1:${await listening(server)}`,
    asked,
    [Symbol.dispose]: () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

async function serve(socket: Socket, targetPort: number, asked: string[]): Promise<void> {
  const [version, count = 0] = await take(socket, 2)
  if (version !== 5) throw new Error('not SOCKS5')
  const takesPassword = (await take(socket, count)).includes(2)
  socket.write(Uint8Array.of(5, takesPassword ? 2 : 0))
  const user = takesPassword ? await login(socket) : ''
  const [, , , kind = 0] = await take(socket, 4)
  const name = kind === 3 ? await counted(socket) : [...(await take(socket, kind === 4 ? 16 : 4))].join('.')
  asked.push(`${user} ${name}:${(await take(socket, 2)).readUInt16BE()}`)
  const target = connect(targetPort, '127.0.0.1').on('error', () => socket.destroy())
  await once(target, 'connect')
  socket.write(Uint8Array.of(5, 0, 0, 1, 127, 0, 0, 1, 0, 0))
  target.pipe(socket).pipe(target)
}

async function login(socket: Socket): Promise<string> {
  await take(socket, 1)
  const user = `${await counted(socket)}:${await counted(socket)}`
  socket.write(Uint8Array.of(1, 0))
  return user
}

async function counted(socket: Socket): Promise<string> {
  const [length = 0] = await take(socket, 1)
  return (await take(socket, length)).toString()
}

async function take(socket: Socket, bytes: number): Promise<Buffer> {
  for (;;) {
    const taken: Buffer | null = bytes === 0 ? Buffer.alloc(0) : socket.read(bytes)
    if (taken !== null) return taken
    await once(socket, 'readable')
  }
}
