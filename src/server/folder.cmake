if(NOT scope STREQUAL "INTERFACE")
  target_link_libraries(sonde_server PRIVATE OpenSSL::Crypto)
endif()
