import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'

/** Makes the server listen on a port of the system's choice. */
export async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** A port that nobody listens on. Somebody else could take it before it is used, which then fails and says so. */
export async function freePort(): Promise<number> {
  const server = createServer()
  const port = await listening(server)
  server.close()
  await once(server, 'close')
  return port
}
