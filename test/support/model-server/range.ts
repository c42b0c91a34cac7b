// Which part of the file a request asks for (RFC 9110, 14).
import type { IncomingMessage, ServerResponse } from 'node:http'

/** One range, as far as this server knows ranges. `end`: exclusive; `undefined`: to the end. */
export function askedRange(request: IncomingMessage): { start: number; end: number | undefined } | undefined {
  const [, start, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  if (start === undefined) return undefined
  return { start: Number(start), end: last ? Number(last) + 1 : undefined }
}

export function contentRange(start: number, end: number, size: number): string {
  return `bytes ${start}-${end - 1}/${size}`
}

export function sendMultipart(response: ServerResponse, bytes: Buffer, range: string): void {
  const body = Buffer.concat([
    Buffer.from(`--parts\r\ncontent-type: application/octet-stream\r\ncontent-range: ${range}\r\n\r\n`),
    bytes,
    Buffer.from('\r\n--parts--\r\n'),
  ])
  const headers = { 'content-type': 'multipart/byteranges; boundary=parts', 'content-length': body.length }
  response.writeHead(206, headers).end(body)
}
