{
  "targets": [
    {
      "target_name": "os_mutex",
      "sources": [
        "native/addon.cc",
        "native/environment.cc",
        "native/failure_error.cc",
        "native/file_hold_object.cc",
        "native/mutex_object.cc",
        "native/owner_record.cc",
        "native/preallocate_task.cc",
        "native/process_mutex.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      # Swallow: an exception for a worker that is being terminated reaches nobody, and must not abort the process.
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "cflags_cc!": ["-std=gnu++20", "-std=gnu++17", "-fno-rtti"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fasynchronous-unwind-tables"],
      "conditions": [
        ["OS!='win'", {
          "include_dirs": ["native/posix/include"],
          "sources": [
            "native/posix/courtesy.cc",
            "native/posix/file_hold.cc",
            "native/posix/flock_waiter.cc",
            "native/posix/lock_file.cc",
            "native/posix/mutex.cc",
            "native/posix/own_record.cc",
            "native/posix/preallocate.cc"
          ]
        }],
        ["OS=='win'", {
          "include_dirs": ["native/win32/include"],
          # Not native/win32/node_api.cc: node-gyp brings a hook of its own for Visual C++.
          "sources": [
            "native/win32/descriptor.cc",
            "native/win32/file_hold.cc",
            "native/win32/lock_home.cc",
            "native/win32/owner_thread.cc",
            "native/win32/preallocate.cc",
            "native/win32/process_identity.cc",
            "native/win32/record_file.cc",
            "native/win32/handle.cc",
            "native/win32/mutex.cc",
            "native/win32/security.cc"
          ],
          "defines": ["NOMINMAX", "UNICODE", "WIN32_LEAN_AND_MEAN", "_WIN32_WINNT=0x0A00"],
          "libraries": ["-ladvapi32.lib", "-lntdll.lib"],
          # The standard library's own exceptions end the process, as elsewhere, but need their tables.
          "msvs_settings": {"VCCLCompilerTool": {"ExceptionHandling": 1, "AdditionalOptions": ["/utf-8"]}}
        }],
        ["OS=='linux'", {
          "sources": [
            "native/posix/cancellable_flock_linux.cc",
            "native/posix/cancellable_flock_musl_x64.cc",
            "native/posix/endable_flock_linux.cc",
            "native/posix/kernel_word_linux.cc",
            "native/posix/os_linux.cc",
            "native/posix/proc_linux.cc",
            "native/posix/process_identity_linux.cc",
            "native/posix/sync_linux.cc"
          ],
          "defines": ["_GNU_SOURCE"]
        }],
        ["OS=='mac'", {
          "sources": [
            "native/posix/endable_flock_darwin.cc",
            "native/posix/os_darwin.cc",
            "native/posix/process_identity_darwin.cc",
            "native/posix/sync_darwin.cc"
          ],
          "xcode_settings": {
            "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
            "GCC_ENABLE_CPP_EXCEPTIONS": "NO",
            "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
            "MACOSX_DEPLOYMENT_TARGET": "11.0",
            "WARNING_CFLAGS": ["-Wall", "-Wextra", "-Wthread-safety", "-Werror"]
          }
        }]
      ]
    }
  ]
}
