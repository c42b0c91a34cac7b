// nginx with a config of its own: serves files as fast as they can be served, and says afterwards how many bytes went out.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { selfSigned } from '../../test/support/certificate.ts'
import { freePort } from '../../test/support/listening.ts'
import { tied } from './children.ts'

export interface NginxFile {
  /** On disk. */
  readonly path: string
  readonly bytes: number
  readonly sha256: string
}

/** What `@huggingface/hub` is to ask for: the file as its hub would have it. */
export const hubFile = { repo: 'bench/model', path: 'model.gguf' } as const

export interface NginxOptions {
  /** Default: this machine's own, 127.0.0.1. */
  readonly on?: { readonly words: readonly string[]; readonly address: string }
  /** Serves by TLS, with a certificate of its own making. Default: `false`. */
  readonly tls?: boolean
}

export class Nginx implements AsyncDisposable {
  readonly origin: string
  readonly #process: ChildProcess
  readonly #log: string
  readonly #ended: Promise<unknown>
  /** The file of the certificate that its clients must trust. */
  readonly certificate: string | undefined

  private constructor(origin: string, child: ChildProcess, log: string, certificate: string | undefined) {
    this.origin = origin
    this.certificate = certificate
    this.#process = child
    this.#log = log
    this.#ended = once(child, 'exit')
  }

  /** Serves one file; what nginx itself writes goes into a new folder in `root`. Resolves when it answers. */
  static async start(root: string, file: NginxFile, { on, tls = false }: NginxOptions = {}): Promise<Nginx> {
    const folder = mkdtempSync(join(root, 'nginx-'))
    const { words = [], address = '127.0.0.1' } = on ?? {}
    const port = await freePort()
    const [config, log] = [join(folder, 'nginx.conf'), join(folder, 'access.log')]
    const certificate = tls ? writeCertificate(folder, address) : undefined
    writeFileSync(config, configuration({ folder, address, port, log, file, certificate }))
    const [command = 'nginx', ...rest] = [...words, 'nginx', '-e', 'stderr', '-c', config]
    const child = tied(spawn(command, rest, { env: environment(), stdio: 'inherit' }))
    await once(child, 'spawn')
    const nginx = new Nginx(`${tls ? 'https' : 'http'}://${address}:${port}`, child, log, certificate)
    while (!nginx.#answers(words)) {
      if (child.exitCode !== null) throw new Error(`nginx ended (${child.exitCode})`)
      await sleep(10)
    }
    return nginx
  }

  static version(): string {
    // It says so on stderr.
    const { stderr, error } = spawnSync('nginx', ['-v'], { env: environment(), encoding: 'utf8' })
    if (error) throw new Error(`nginx could not be started: ${error.message}`)
    return stderr.trim().replace('nginx version: ', '')
  }

  /** The file, at full speed. */
  get url(): string {
    return `${this.origin}/model.gguf`
  }

  /** The file, with each connection limited. */
  get limitedUrl(): string {
    return `${this.origin}/limited/model.gguf`
  }

  /** Resolves, when it has ended, with the sum of the bodies' bytes that it sent: what it read ahead for a client that left included. */
  async stop(): Promise<number> {
    // Not SIGTERM: every answer gets its line in the log.
    this.#process.kill('SIGQUIT')
    await this.#ended
    const lines = readFileSync(this.#log, 'utf8').split('\n')
    return lines.reduce((sum, line) => sum + Number(line), 0)
  }

  /** Ends it at once, unless it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGTERM')
    await this.#ended
  }

  #answers(words: readonly string[]): boolean {
    const [command = 'curl', ...rest] = [...words, 'curl', '-qsSfkI', '-o', '/dev/null', this.url]
    return spawnSync(command, rest, { stdio: 'ignore' }).status === 0
  }
}

/** Of each connection at `limitedUrl`, in MiB/s. */
export const limitMibPerSecond = 20

interface Configuration {
  readonly folder: string
  readonly address: string
  readonly port: number
  readonly log: string
  readonly file: NginxFile
  readonly certificate: string | undefined
}

function writeCertificate(folder: string, address: string): string {
  const { key, cert } = selfSigned(`IP:${address}`)
  const file = join(folder, 'cert.pem')
  writeFileSync(file, cert)
  writeFileSync(join(folder, 'key.pem'), key)
  return file
}

function configuration({ folder, address, port, log, file, certificate }: Configuration): string {
  const { path, bytes, sha256 } = file
  const info = JSON.stringify([{ type: 'file', path: hubFile.path, size: bytes, oid: sha256, lfs: { oid: sha256 } }])
  const tls = certificate && `ssl_certificate ${certificate}; ssl_certificate_key ${folder}/key.pem;`
  // Root's worker would be somebody else, who may not read the folder.
  return `
${process.geteuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
events { worker_connections 1024; }
http {
  log_format bytes $body_bytes_sent;
  access_log ${log} bytes;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  sendfile on;
  tcp_nopush on;
  server {
    listen ${address}:${port}${tls ? ' ssl' : ''};
    ${tls ?? ''}
    location = /model.gguf { alias ${path}; }
    location = /limited/model.gguf { alias ${path}; limit_rate ${limitMibPerSecond}m; }
    location = /${hubFile.repo}/resolve/main/${hubFile.path} { alias ${path}; }
    location = /api/models/${hubFile.repo}/paths-info/main { default_type application/json; return 200 '${info}'; }
  }
}
`
}

/** Debian has nginx where only root looks for programs. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }
}
