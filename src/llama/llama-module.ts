// node-llama-cpp itself: imported or given by the caller, and the folder that it builds in.
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { inspect } from 'node:util'
import { invalidArgument } from '../mutex/options.ts'
import { LlamaBackendError } from './errors.ts'
import type { NodeLlamaCpp } from './node-llama-cpp.ts'

/** The imported module, a promise of it, or a function that returns either. */
export type LlamaModuleOption = NodeLlamaCpp | Promise<NodeLlamaCpp> | (() => NodeLlamaCpp | Promise<NodeLlamaCpp>)

export interface LlamaModule {
  readonly module: NodeLlamaCpp
  /** Where it keeps sources and builds. `undefined` where that is not known. */
  readonly folder: string | undefined
}

/** @throws {LlamaBackendError} `ERR_LLAMA_NOT_INSTALLED`, `ERR_LLAMA_IMPORT_FAILED`; `TypeError` for a wrong option */
export async function openLlamaModule(option: LlamaModuleOption | undefined): Promise<LlamaModule> {
  const module = option === undefined ? await importPackage() : await givenModule(option)
  const root = packageRoot()
  const isKnown = root !== undefined && (option === undefined || (await isPackageIn(root, module)))
  const folder = isKnown ? join(root, 'llama') : undefined
  return { module, folder: folder !== undefined && existsSync(folder) ? folder : undefined }
}

async function importPackage(): Promise<NodeLlamaCpp> {
  try {
    return await import('node-llama-cpp')
  } catch (cause) {
    throw importError(cause)
  }
}

async function givenModule(option: LlamaModuleOption): Promise<NodeLlamaCpp> {
  const isLoader = typeof option === 'function'
  let module: unknown
  try {
    module = await (isLoader ? (option as () => unknown)() : option)
  } catch (cause) {
    throw importError(cause)
  }
  if (isNodeLlamaCpp(module)) return module
  throw invalidArgument(
    `The option "module" must be node-llama-cpp (what import('node-llama-cpp') resolves with) or a function that ` +
      `imports it. ${isLoader ? 'The function returned' : 'It is'} ${inspect(module, { depth: -1 })}`,
  )
}

function isNodeLlamaCpp(value: unknown): value is NodeLlamaCpp {
  if (typeof value !== 'object' || value === null) return false
  const { getLlama, NoBinaryFoundError } = value as Partial<NodeLlamaCpp>
  return typeof getLlama === 'function' && typeof NoBinaryFoundError === 'function'
}

function importError(cause: unknown): LlamaBackendError {
  const { code, message = String(cause) } = (cause ?? {}) as { readonly code?: unknown; readonly message?: string }
  if (/MODULE_NOT_FOUND/.test(String(code)) && /(package|module) ['"]?node-llama-cpp\b(?!\/)/.test(message)) {
    return new LlamaBackendError(
      'ERR_LLAMA_NOT_INSTALLED',
      'The package node-llama-cpp could not be found. It does not come with os-mutex: npm install node-llama-cpp@3. ' +
        'If it is installed outside node_modules, give it to getLlama as the option "module"',
      { cause },
    )
  }
  const [reason] = message.split('\n', 1)
  const isVirtual = String(code).startsWith('ERR_VM_DYNAMIC_IMPORT') || /ES Modules in the VM API/i.test(message)
  const advice = isVirtual
    ? '. Jest cannot import ES modules by default: run it with NODE_OPTIONS=--experimental-vm-modules. Or do without ' +
      'the import: give getLlama another "module", or give load() and loadModel() a "llama" of your own'
    : ''
  return new LlamaBackendError('ERR_LLAMA_IMPORT_FAILED', `node-llama-cpp could not be loaded: ${reason}${advice}`, {
    cause,
  })
}

/**
 * Whether this module is the package in this folder. The builds and the source of another copy are nothing to wait for
 * and nothing to remove.
 */
async function isPackageIn(root: string, module: NodeLlamaCpp): Promise<boolean> {
  try {
    // The version first: if it is the same copy, the import below loads nothing.
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
    return version === (await module.getModuleVersion()) && module === (await importPackage())
  } catch {
    return false
  }
}

/** The folder of the package that `import('node-llama-cpp')` finds from here. */
function packageRoot(): string | undefined {
  try {
    return dirname(dirname(createRequire(__filename).resolve('node-llama-cpp')))
  } catch {
    return undefined
  }
}

interface Commands {
  ClearLlamaCppBuildCommand(options: { readonly type: 'source' }): Promise<void>
}

/** Removes the package's clone of llama.cpp. */
export async function removeSource(): Promise<void> {
  // By a variable, so that no bundler looks for it in a program without node-llama-cpp.
  const specifier = 'node-llama-cpp/commands'
  const commands: Commands = await import(/* webpackIgnore: true */ /* @vite-ignore */ specifier)
  await commands.ClearLlamaCppBuildCommand({ type: 'source' })
}
