if(NOT scope STREQUAL "INTERFACE")
  target_link_libraries(sonde_text PUBLIC PkgConfig::PCRE2 PkgConfig::UTF8PROC OpenSSL::Crypto)
endif()
if(SONDE_SANITIZE MATCHES undefined)  # Debian's RapidJSON adds to a null pointer when its stack is still empty
  set_source_files_properties(${PROJECT_SOURCE_DIR}/src/text/vocabulary_json.cpp PROPERTIES COMPILE_OPTIONS -fno-sanitize=pointer-overflow)
endif()
