if(NOT scope STREQUAL "INTERFACE")
  target_link_libraries(sonde_files PUBLIC OpenSSL::Crypto)  # SHA-256 tells whether a cache file is whole, and of which source
endif()
