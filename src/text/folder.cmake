if(NOT scope STREQUAL "INTERFACE")
  target_link_libraries(sonde_text PUBLIC PkgConfig::PCRE2 PkgConfig::UTF8PROC OpenSSL::Crypto)
endif()
