// A compiler that takes no time: stands in for npm, which node-llama-cpp runs to compile llama.cpp, asks the test when
// it may finish, and then puts the package's own binary where a compiled one would be.
import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { GateInstall } from './gate-install.ts'
import { withScriptsAsPrograms } from './runtimes.ts'

const packageRoot = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
const target = `${process.platform === 'darwin' ? 'mac' : process.platform}-${process.arch}`
const binaries = ['', '-metal']
  .map((gpu) => join(packageRoot, 'node_modules', '@node-llama-cpp', target + gpu, 'bins', target + gpu))
  .find((folder) => existsSync(join(folder, 'llama-addon.node')))

export const withCompiler = {
  skip:
    process.platform === 'win32'
      ? 'a program that stands in for npm is a script, which Windows does not run'
      : withScriptsAsPrograms.skip || (binaries === undefined && `there is no binary of node-llama-cpp for ${target}`),
}

/** As a program in the installation's PATH. Arguments: `run -s cmake-js-llama -- clean|compile … --out <folder>`. */
const program = (socket: string, folder: string) => `#!${process.execPath}
const { cpSync } = require('node:fs')
const { connect } = require('node:net')
const { join } = require('node:path')
const args = process.argv.slice(2)
if (!args.includes('compile')) process.exit(0)
const line = connect(${JSON.stringify(socket)}, () => line.write(String(process.ppid)))
line.on('error', () => process.exit(1))
line.on('close', () => process.exit(1))
line.once('data', () => {
  const out = join(process.cwd(), '..', '..', '..', 'llama', args[args.indexOf('--out') + 1], 'Release')
  cpSync(${JSON.stringify(folder)}, out, { recursive: true })
  process.exit(0)
})
`

/** One compilation under way. */
export interface Compilation {
  /** The process that builds. */
  readonly builder: number
  finish(): void
}

export class StandInCompiler implements AsyncDisposable {
  readonly #install: GateInstall
  readonly #server: Server
  readonly #lines = new Set<Socket>()
  readonly #waiting: ((compilation: Compilation) => void)[] = []
  readonly #begun: Compilation[] = []
  /** How many have begun. */
  compilations = 0

  private constructor(install: GateInstall, server: Server) {
    this.#install = install
    this.#server = server
  }

  /** Into an installation with a node-llama-cpp of its own. */
  static async create(install: GateInstall): Promise<StandInCompiler> {
    const socket = join(install.path, 'compiler.sock')
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    writeFileSync(join(install.path, 'npm'), program(socket, binaries ?? ''), { mode: 0o755 })
    copyFileSync(join(install.path, 'npm'), join(install.path, 'cmake'))
    const compiler = new StandInCompiler(install, server)
    // The mark of a source that is there.
    mkdirSync(join(compiler.folder, 'llama.cpp', '.git'), { recursive: true })
    server.on('connection', (line) => compiler.#begin(line))
    return compiler
  }

  /** node-llama-cpp's own. */
  get folder(): string {
    return join(this.#install.path, 'node_modules', 'node-llama-cpp', 'llama')
  }

  /** Where builds without a GPU are made. node-llama-cpp's lock of it is beside it. */
  get buildFolder(): string {
    return join(this.folder, 'localBuilds', target)
  }

  /** The next compilation that begins. */
  next(): Promise<Compilation> {
    const begun = this.#begun.shift()
    return begun ? Promise.resolve(begun) : new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Forgets what was built. */
  async clear(): Promise<void> {
    for (const name of readdirSync(this.folder).filter((name) => name === 'localBuilds')) {
      await rm(join(this.folder, name), { recursive: true })
    }
    this.compilations = 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const line of this.#lines) line.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #begin(line: Socket): void {
    this.#lines.add(line)
    line.on('error', () => {})
    line.on('close', () => this.#lines.delete(line))
    line.once('data', (pid) => {
      this.compilations++
      const compilation = { builder: Number(pid), finish: () => void line.write('finish') }
      const waiting = this.#waiting.shift()
      if (waiting) waiting(compilation)
      else this.#begun.push(compilation)
    })
  }
}
