if(NOT scope STREQUAL "INTERFACE")
  target_link_libraries(sonde_engine PUBLIC OpenSSL::Crypto)  # SHA-256 names the cache's pages
endif()
