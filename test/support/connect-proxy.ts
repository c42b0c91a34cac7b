// An HTTP proxy that leads every CONNECT to one port of this machine, and remembers what it was asked for.
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { listening } from './listening.ts'

export interface ConnectProxy extends Disposable {
  /** `host:port` of the proxy. */
  readonly address: string
  /** `host:port` of each request, and the user that it came with. */
  readonly asked: readonly { readonly target: string | undefined; readonly authorization: string | undefined }[]
}

export async function startConnectProxy(targetPort: number): Promise<ConnectProxy> {
  const asked: { target: string | undefined; authorization: string | undefined }[] = []
  const server = createServer()
  server.on('connect', (request, socket) => {
    asked.push({ target: request.url, authorization: request.headers['proxy-authorization'] })
    const there = connect(targetPort, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      there.pipe(socket).pipe(there)
    })
    for (const end of [there, socket]) end.on('error', () => {})
  })
  return {
    address: `127.0.0.1:${await listening(server)}`,
    asked,
    [Symbol.dispose]: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
