// Answers that carry nothing of a file.
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { isGone, written } from './body.ts'
import type { Exchange } from './exchange.ts'

const loginPage = '<!doctype html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>'

/** Resolves with whether the fault was an answer by itself. */
export async function answeredBare({ fault, request, response }: Exchange): Promise<boolean> {
  switch (fault?.kind) {
    case 'status': {
      const headers = typeof fault.headers === 'function' ? fault.headers() : fault.headers
      sendStatus(response, fault.status, headers)
      return true
    }
    case 'redirect':
      response.writeHead(fault.status ?? 302, { location: rawUtf8(fault.to) }).end()
      return true
    case 'silent':
      await once(response, 'close')
      return true
    case 'html':
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(loginPage)
      return true
    case 'endless-informational': {
      const { status = 103, everyMs } = fault
      while (await written(request.socket, `HTTP/1.1 ${status} Early Hints\r\nLink: </x>\r\n\r\n`)) await sleep(everyMs)
      return true
    }
    case 'endless-head':
      request.socket.write('HTTP/1.1 200 OK\r\nX: ')
      while (await written(request.socket, 'x')) await sleep(fault.everyMs)
      return true
    default:
      return false
  }
}

export function sendStatus(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  if (isGone(response)) return
  response.writeHead(status, { 'content-type': 'text/plain', ...headers })
  response.end(status === 204 || status === 304 ? undefined : `${status}\n`)
}

/** Node writes the characters of a header as one byte each. */
function rawUtf8(text: string): string {
  return Buffer.from(text).toString('latin1')
}
