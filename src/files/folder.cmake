if(NOT scope STREQUAL "INTERFACE")
  target_link_libraries(sonde_files PUBLIC fmt::fmt OpenSSL::Crypto)  # SHA-256 of sources and of a cache file's header
endif()
