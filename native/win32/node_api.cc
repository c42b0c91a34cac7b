// Finds Node-API in the program that loaded the addon. An import library would bind it to a program named node.exe, and
// Electron renames that. Compiled with GNU-like toolchains only: node-gyp gives Visual C++ its own hook for this.
//
// The compiler calls a function that is marked dllimport through a pointer named __imp_<function>, which the import
// library would define. Here they are defined by hand and filled when the library is loaded, before any of its code
// runs. A function that the addon begins to use and that is missing here fails the link.
#include <windows.h>

#define OS_MUTEX_NODE_API(X)                                                                                            \
  X(napi_add_env_cleanup_hook) X(napi_add_finalizer) X(napi_async_destroy) X(napi_call_function)                        \
  X(napi_call_threadsafe_function) X(napi_close_callback_scope) X(napi_close_escapable_handle_scope)                    \
  X(napi_close_handle_scope) X(napi_create_async_work) X(napi_create_double) X(napi_create_error)                       \
  X(napi_create_function) X(napi_create_object) X(napi_create_promise) X(napi_create_reference)                         \
  X(napi_create_string_latin1) X(napi_create_string_utf8) X(napi_create_threadsafe_function)                            \
  X(napi_create_type_error) X(napi_define_class) X(napi_define_properties) X(napi_delete_async_work)                    \
  X(napi_delete_reference) X(napi_escape_handle) X(napi_fatal_error) X(napi_fatal_exception)                            \
  X(napi_get_and_clear_last_exception) X(napi_get_boolean) X(napi_get_cb_info) X(napi_get_instance_data)                \
  X(napi_get_last_error_info) X(napi_get_new_target) X(napi_get_property) X(napi_get_reference_value)                   \
  X(napi_get_undefined) X(napi_get_value_bool) X(napi_get_value_double) X(napi_get_value_int64)                         \
  X(napi_get_value_string_utf16) X(napi_get_value_string_utf8) X(napi_get_value_uint32) X(napi_has_property)            \
  X(napi_is_exception_pending) X(napi_open_escapable_handle_scope) X(napi_open_handle_scope) X(napi_queue_async_work)   \
  X(napi_ref_threadsafe_function) X(napi_release_threadsafe_function) X(napi_remove_wrap) X(napi_resolve_deferred)      \
  X(napi_set_instance_data) X(napi_set_named_property) X(napi_throw) X(napi_typeof) X(napi_unref_threadsafe_function)   \
  X(napi_unwrap) X(napi_wrap)

#define OS_MUTEX_SLOT(name) void* __imp_##name = nullptr;
extern "C" {
OS_MUTEX_NODE_API(OS_MUTEX_SLOT)
}

namespace {

void* find(const char* name) {
  // The program itself; else the library that some embedders put Node into.
  const wchar_t* const hosts[] = {nullptr, L"libnode.dll", L"node.dll"};
  for (const wchar_t* const host : hosts) {
    const HMODULE module = ::GetModuleHandleW(host);
    if (module == nullptr) continue;
    if (const FARPROC found = ::GetProcAddress(module, name)) return reinterpret_cast<void*>(found);
  }
  return nullptr;
}

#define OS_MUTEX_FIND(name) && (__imp_##name = find(#name)) != nullptr

bool findAll() { return true OS_MUTEX_NODE_API(OS_MUTEX_FIND); }

}  // namespace

// FALSE: LoadLibrary fails (ERROR_DLL_INIT_FAILED) in a program that offers no Node-API, or too old a one.
extern "C" BOOL WINAPI DllMain(HINSTANCE, DWORD reason, LPVOID) { return reason != DLL_PROCESS_ATTACH || findAll(); }
